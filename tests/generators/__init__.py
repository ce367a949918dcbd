"""Inputs with answers known in closed form, and strategies that draw features."""
