"""What a server does while it stands by: it passes on what comes, over HTTP and gRPC, to the one that works."""
