"""The dataset folder, as hubs and their users expect it."""
