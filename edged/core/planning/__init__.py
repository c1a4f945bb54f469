"""The brain (DESIGN §7): what to expect of a number of local sessions, and which sessions should be local.

The paper's evaluation as formulas, for any parameters: start reading at `latency` (Fig. 3) and `provision` (Fig. 4);
`mix` and `queues` are what both stand on. `view` is what a node knows when it decides, and what it then answers.
"""
