"""HTTP itself: middleware, errors and problem documents, cursors, the server protocol."""
