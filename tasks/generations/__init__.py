"""The life of a generation: fingerprint, opening, promotion, rollback, retention. Built on `tasks/resources.py`."""
