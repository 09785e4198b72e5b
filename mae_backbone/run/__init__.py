"""What a training is made of: MMEngine's Runner, and what stands around its steps."""
