"""The live model: how it is taken, checked, swapped, described and explained."""
