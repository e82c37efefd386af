"""Words for people, in English and Chinese: the console's, the digest's, what bodies say as sentences, masked ids. Pure."""
