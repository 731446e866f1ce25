"""Files over http and https: one bounded request, tried again where the next may succeed."""
