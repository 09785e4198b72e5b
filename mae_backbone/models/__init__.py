"""The models that MMEngine builds."""
