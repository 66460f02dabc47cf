"""Stands before torch on a command's path: users have none, and TensorBoard's writer takes 1.3 s to load it."""

raise ImportError("torch is for tests, and this process stands for a user's")
