//! Statistics of activations, streamed: what is kept does not grow with the text.

use crate::method::Aggregate;
use candle_core::Tensor;

/// Running sums of what each part's activations aggregate to, window by window.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moments {
    windows: usize,
    tokens: usize,
    /// Per part: of all tokens.
    sum: Vec<f64>,
    squares: Vec<f64>,
    /// For each way to aggregate a window, per part: the sum over windows of the aggregate, and of its square.
    folds: [[Vec<f64>; 2]; 3],
}

impl Moments {
    /// Takes up a window's activations `[tokens, parts]`.
    pub(crate) fn add(&mut self, x: &Tensor) -> candle_core::Result<()> {
        let tokens = x.dim(0)?;
        let columns =
            |y: Tensor| -> candle_core::Result<Vec<f64>> { Ok(y.sum(0)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect()) };
        let (sum, absolute, squares) = (columns(x.clone())?, columns(x.abs()?)?, columns(x.sqr()?)?);
        let n = tokens as f64;
        let parts = sum.len();
        self.sum.resize(parts, 0.0);
        self.squares.resize(parts, 0.0);
        self.folds.iter_mut().flatten().for_each(|fold| fold.resize(parts, 0.0));
        for part in 0..parts {
            self.sum[part] += sum[part];
            self.squares[part] += squares[part];
            let mean = sum[part] / n;
            let values = Aggregate::ALL.map(|aggregate| match aggregate {
                Aggregate::Mean => absolute[part] / n,
                Aggregate::Norm => squares[part].sqrt(),
                Aggregate::Variance => (squares[part] / n - mean * mean).max(0.0),
            });
            for (fold, value) in self.folds.iter_mut().zip(values) {
                fold[0][part] += value;
                fold[1][part] += value * value;
            }
        }
        self.windows += 1;
        self.tokens += tokens;
        Ok(())
    }

    /// Per part: aggregated over the tokens of a window, then over windows.
    pub(crate) fn aggregated(&self, tokens: Aggregate, windows: Aggregate) -> Vec<f64> {
        let [sum, squares] = &self.folds[tokens as usize];
        let n = self.windows as f64;
        let one = |(sum, squares): (&f64, &f64)| match windows {
            Aggregate::Mean => sum / n,
            Aggregate::Norm => squares.sqrt(),
            Aggregate::Variance => (squares / n - (sum / n).powi(2)).max(0.0),
        };
        sum.iter().zip(squares).map(one).collect()
    }

    /// Per part: the mean square over all tokens.
    pub(crate) fn mean_square(&self) -> Vec<f64> {
        self.squares.iter().map(|s| s / self.tokens as f64).collect()
    }

    /// Per part: the variance over all tokens.
    pub(crate) fn variance(&self) -> Vec<f64> {
        let n = self.tokens as f64;
        self.squares.iter().zip(&self.sum).map(|(squares, sum)| (squares / n - (sum / n).powi(2)).max(0.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn aggregates_of_two_windows() {
        let mut moments = Moments::default();
        for window in [[[1.0_f32, -2.0], [3.0, 2.0]], [[2.0, 0.0], [2.0, 0.0]]] {
            moments.add(&Tensor::new(&window, &Device::Cpu).unwrap()).unwrap();
        }
        let close = |found: Vec<f64>, expected: [f64; 2]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} {expected:?}");
        };
        let (mean, norm, variance) = (Aggregate::Mean, Aggregate::Norm, Aggregate::Variance);
        // Means of windows 2 and 2, 2 and 0; norms sqrt 10 and sqrt 8, sqrt 8 and 0; variances 1 and 0, 4 and 0.
        close(moments.aggregated(mean, mean), [2.0, 1.0]);
        close(moments.aggregated(mean, norm), [8_f64.sqrt(), 2.0]);
        close(moments.aggregated(mean, variance), [0.0, 1.0]);
        close(moments.aggregated(norm, norm), [18_f64.sqrt(), 8_f64.sqrt()]);
        close(moments.aggregated(variance, mean), [0.5, 2.0]);
        close(moments.aggregated(variance, norm), [1.0, 4.0]);
        close(moments.mean_square(), [4.5, 2.0]);
        close(moments.variance(), [0.5, 2.0]);
    }
}
