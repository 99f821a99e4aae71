"""A key-value store over plain TCP that shows what each request went through."""
