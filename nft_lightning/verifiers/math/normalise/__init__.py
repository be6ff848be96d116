"""Small steps from text to text that write an answer in one way, each of one idea."""
