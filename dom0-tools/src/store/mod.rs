//! xenstore: wire format, tree, transactions, watches, server and client.
