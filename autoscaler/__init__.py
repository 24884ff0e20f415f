"""The burst engine: decides what to buy, buys it, and gives it back."""
