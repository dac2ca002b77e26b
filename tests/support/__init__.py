"""What the tests stand on: servers, a stand-in for a chat model, processes that are killed. No test, no fixture."""
