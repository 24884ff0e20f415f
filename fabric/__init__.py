"""The elastic AI fabric: the vocabulary, the rules and what people touch."""

__version__ = "0.1.0"
