"""Recipe, losses, schedule and one visible loop; the linear probe; the run folder that a training leaves."""
