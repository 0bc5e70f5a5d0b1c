"""Expert-activation traces of mixture-of-experts models.

`trace.py` is the record that everything here works on: which experts each token chose.
"""
