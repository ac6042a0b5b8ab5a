//! Conversations with a server that answers as it is told.
