//! Tensors as rows, which may lie in several places: what is cut into an artifact.

use crate::{ElementType, Error, TensorView, Weights};

/// A tensor as rows of its last dimension. They lie in segments of whole rows, because a super-network on a device is a row of
/// chunks; a vector is one row.
#[derive(Debug, Clone)]
pub struct RowView<'a> {
    pub(crate) element: ElementType,
    pub(crate) shape: &'a [usize],
    segments: Segments<'a>,
}

#[derive(Debug, Clone)]
enum Segments<'a> {
    One(&'a [u8]),
    /// In order, each with the number of its first row.
    Many(Vec<(usize, &'a [u8])>),
}

impl<'a> From<TensorView<'a>> for RowView<'a> {
    fn from(view: TensorView<'a>) -> Self {
        Self { element: view.element, shape: view.shape, segments: Segments::One(view.bytes) }
    }
}

impl<'a> RowView<'a> {
    /// `segments` are not empty, hold whole rows, and are as many as the shape says.
    pub(crate) fn new(element: ElementType, shape: &'a [usize], segments: impl ExactSizeIterator<Item = &'a [u8]>) -> Self {
        let stride = row_bytes(element, shape);
        let mut first = 0;
        let count = segments.len();
        let mut numbered = segments.map(|bytes| {
            let at = first;
            first += bytes.len() / stride;
            (at, bytes)
        });
        let segments = match numbered.next() {
            Some((_, bytes)) if count == 1 => Segments::One(bytes),
            one => Segments::Many(one.into_iter().chain(numbered).collect()),
        };
        Self { element, shape, segments }
    }

    /// Type of the elements.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Little-endian elements of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &'a [u8] {
        let stride = row_bytes(self.element, self.shape);
        let (first, bytes) = match &self.segments {
            Segments::One(bytes) => (0, *bytes),
            Segments::Many(segments) => {
                let after = segments.partition_point(|(first, _)| *first <= row);
                segments[after - 1]
            }
        };
        &bytes[(row - first) * stride..][..stride]
    }

    /// Checks the shape.
    pub(crate) fn expect(self, name: &str, shape: &[usize]) -> Result<Self, Error> {
        expect_shape(name, self.shape, shape).map(|()| self)
    }
}

/// Size of a row of the last dimension.
pub(crate) fn row_bytes(element: ElementType, shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1) * element.size()
}

pub(crate) fn expect_shape(name: &str, found: &[usize], expected: &[usize]) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    let problem = format!("has shape {found:?}, the configuration says {expected:?}");
    Err(Error::BadTensor { name: name.to_owned(), problem })
}

/// Named tensors as rows, `[out, in]` for projections: all that making an artifact needs. [`Weights`] are such a source, and
/// [`ChunkedWeights`](crate::ChunkedWeights) are one without being `Weights`, as their tensors need not lie in one piece.
pub trait RowSource: Sync {
    /// The tensor with this name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] where there is none.
    fn rows(&self, name: &str) -> Result<RowView<'_>, Error>;
}

impl<W: Weights> RowSource for W {
    fn rows(&self, name: &str) -> Result<RowView<'_>, Error> {
        self.tensor(name).map(RowView::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_their_segments() {
        let bytes: Vec<u8> = (0..24).collect();
        let shape = [6, 2];
        for cuts in [vec![0, 24], vec![0, 4, 24], vec![0, 4, 8, 20, 24], vec![0, 4, 8, 12, 16, 20, 24]] {
            let segments = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]);
            let view = RowView::new(ElementType::F16, &shape, segments);
            for row in 0..6 {
                assert_eq!(view.row(row), &bytes[row * 4..row * 4 + 4]);
            }
        }
    }
}
