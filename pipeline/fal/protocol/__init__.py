"""fal's queue protocol: what is sent, how often, whom the key is shown, and what is believed."""
