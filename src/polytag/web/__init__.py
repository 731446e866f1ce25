"""The server: one address, a guard before every request, bounded memory."""
