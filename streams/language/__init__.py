"""Texts for people in English and Chinese: words of the console and the digest, sentences of bodies, masked ids.

Public: `words` (console_words.py), `WORDS` (digest_words.py), `sentences` (sentences.py), `mask` (masking.py). It is
pure: no I/O, no clock.
"""
