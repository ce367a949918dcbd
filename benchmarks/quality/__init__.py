"""How good are measures of similarity and ways of matching, on networks trained here?"""
