"""Words for people, in English and Chinese: the console's, the digest's, bodies as sentences, masked ids.

Public: `words` (console_words.py), `WORDS` (digest_words.py), `sentences` (sentences.py), `mask` (masking.py). It is
pure: no I/O, no clock.
"""
