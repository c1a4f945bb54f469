"""The operator's tool: a client of the control verbs anybody could send (DESIGN §9)."""
