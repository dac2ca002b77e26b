"""Is it alive, is it ready, how is the index, and where do traces go?"""
