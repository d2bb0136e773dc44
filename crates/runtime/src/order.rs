//! Host tensors whose dimensions lie in memory in another order than row-major, such as images with channels last.

use std::borrow::Cow;

/// The elements in row-major order; borrowed when they lie so already, which an empty `order` says.
///
/// `order` names the dimensions from the outermost in memory to the innermost; `bytes` holds at least the elements.
pub(crate) fn to_row_major<'a>(
    bytes: &'a [u8],
    element: usize,
    sizes: &[i32],
    order: &[u8],
) -> Cow<'a, [u8]> {
    if order.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let mut rows = vec![0; count(sizes) * element];
    for (row, place) in rows.chunks_exact_mut(element).zip(Places::new(sizes, order)) {
        row.copy_from_slice(&bytes[place * element..][..element]);
    }
    Cow::Owned(rows)
}

/// Spreads row-major elements over `out` in the order of its dimensions.
pub(crate) fn from_row_major(rows: &[u8], element: usize, sizes: &[i32], order: &[u8], out: &mut [u8]) {
    for (row, place) in rows.chunks_exact(element).zip(Places::new(sizes, order)) {
        out[place * element..][..element].copy_from_slice(row);
    }
}

fn count(sizes: &[i32]) -> usize {
    sizes.iter().map(|&size| size as usize).product()
}

/// Places in memory of the elements, which are visited in row-major order.
struct Places {
    /// Size and stride of each dimension, outermost first, in elements.
    dims: Vec<(usize, usize)>,
    position: Vec<usize>,
    place: usize,
}

impl Places {
    fn new(sizes: &[i32], order: &[u8]) -> Self {
        let mut dims: Vec<(usize, usize)> = sizes.iter().map(|&size| (size as usize, 0)).collect();
        let mut stride = 1;
        for &dim in order.iter().rev() {
            let (size, of_dim) = &mut dims[usize::from(dim)];
            *of_dim = stride;
            stride *= *size;
        }
        Self { position: vec![0; dims.len()], dims, place: 0 }
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let place = self.place;
        for (position, &(size, stride)) in self.position.iter_mut().zip(&self.dims).rev() {
            *position += 1;
            self.place += stride;
            if *position < size {
                break;
            }
            self.place -= size * stride;
            *position = 0;
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_move_between_last_and_second() {
        // [1, 2, 2, 3] with channels last in memory: element c,h,w is 100 c + 10 h + w.
        let sizes = [1, 2, 2, 3];
        let last: Vec<u8> = (0..2)
            .flat_map(|h| (0..3).flat_map(move |w| (0..2).map(move |c| (100 * c + 10 * h + w) as u8)))
            .collect();
        let rows: Vec<u8> = (0..2)
            .flat_map(|c| (0..2).flat_map(move |h| (0..3).map(move |w| (100 * c + 10 * h + w) as u8)))
            .collect();
        assert_eq!(to_row_major(&last, 1, &sizes, &[0, 2, 3, 1]), rows);
        let mut back = vec![0; rows.len()];
        from_row_major(&rows, 1, &sizes, &[0, 2, 3, 1], &mut back);
        assert_eq!(back, last);
        assert_eq!(to_row_major(&rows, 1, &sizes, &[]), rows);
    }

    #[test]
    fn elements_of_several_bytes_stay_whole() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(*to_row_major(&bytes, 2, &[2, 2], &[1, 0]), [1, 2, 5, 6, 3, 4, 7, 8]);
        assert!(to_row_major(&[], 4, &[0, 2], &[1, 0]).is_empty());
    }
}
