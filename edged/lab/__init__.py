"""The laboratory (DESIGN §7): a whole mesh in virtual time, with clients drawn by lot. Start reading at `mesh`."""
