"""What `fusedata.verify.math_answer` stands on, from reading an answer to comparing two of them."""
