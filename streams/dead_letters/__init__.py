"""Records that could not be used: listing, mending, sending again, and what became of each."""
