"""Audits any scorer: are its figures those of a language model, and is the text in its data?"""
