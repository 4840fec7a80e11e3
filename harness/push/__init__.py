"""What a run made, on the Hugging Face Hub: `srft push`.

folder.py puts each repository's files together, with a card that says how they were made (card.py); hub.py sends them.
"""
