"""A whole mesh in virtual time: real cores, and models of everything around them (DESIGN §3)."""
