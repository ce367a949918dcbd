"""Digits: two networks that learned the same digits apart, and find the same images."""
