"""Webhooks: deciding, sending and retrying deliveries."""
