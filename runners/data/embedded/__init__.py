"""A seeded generator of GLUE-shaped English for every task, written for this project.

Labels hang on meaning and composition (negation, contrast, quantifiers, agreement, who did what),
so that counting words does not solve the tasks. It lets a fresh machine without data train
something real; a score on it is never a GLUE score.
"""
