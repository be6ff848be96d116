"""Writing an answer in one way: small steps from text to text, each of one idea."""
