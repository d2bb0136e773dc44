// Elements of ELEMENT_BYTES (1, 2 or 4) in words; the element of a smaller index is in lower bits.
const PER_WORD = 4u / ELEMENT_BYTES;
const BITS = 8u * ELEMENT_BYTES;

// Element `index`, given the word that it is in.
fn unpacked(word: u32, index: u32) -> u32 {
    return extractBits(word, BITS * (index % PER_WORD), BITS);
}

// `word` with element `index` replaced.
fn repacked(word: u32, index: u32, element: u32) -> u32 {
    return insertBits(word, element, BITS * (index % PER_WORD), BITS);
}
