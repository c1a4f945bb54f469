"""The brain (DESIGN §7): what to expect of a number of local sessions, and which sessions should be local."""
