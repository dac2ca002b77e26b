"""The local stack: the parts that `lockstep up` starts, and their health. It knows no flows and no commands."""
