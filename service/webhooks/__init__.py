"""Webhooks: creating, sending and retrying deliveries."""
