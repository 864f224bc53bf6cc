"""Asynchronous runs on a device: while one computes, the next is copied in and the previous one is copied out."""
