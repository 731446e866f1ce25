"""polytag: multi-label image classification. Train, judge, look, ship."""
