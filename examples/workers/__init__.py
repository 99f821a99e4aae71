"""The document search in several processes that share one picture, by way of a Valkey server."""
