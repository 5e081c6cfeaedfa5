"""People in the loop: what they get to label patches with, and what comes back from them."""
