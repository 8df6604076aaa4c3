"""What sensors say of each other: does each show what the others show, in the same place?"""
