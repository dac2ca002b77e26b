"""The local stack: the parts that `lockstep up` starts, and how they are. Knows no flows and no commands."""
