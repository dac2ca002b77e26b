"""Helpers for tests: servers, a stand-in for a chat model, processes to kill. No tests, no fixtures."""
