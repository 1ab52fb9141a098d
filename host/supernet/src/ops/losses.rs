//! What training minimises, and its gradient, row by row: no tensor of the logits' size but the gradient itself.

use super::{
    exp::exp,
    rows::{Elements, elements, fused, largest, row_length, shaped, sum_pairs, sum_pairs_of},
};
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
use multiversion::multiversion;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::{f32::consts::LN_2, marker::PhantomData, sync::OnceLock};

/// Terms that are summed in single precision before the sum goes on in double.
const PART: usize = 1024;

/// `ln(sum(exp(scale * row)))`, in one pass for the maximum and one for the sum.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(crate) fn log_sum_exp(row: &[f32], scale: f32) -> f64 {
    let most = largest(row);
    let sum: f64 = row.chunks(PART).map(|part| f64::from(sum_pairs(part, part, |v, _| exp((v - most) * scale)))).sum();
    f64::from(most) * f64::from(scale) + sum.ln()
}

/// Mean over rows of the negative log-likelihood of each row's target, in nats: `logits [rows, vocabulary]`. A scalar.
///
/// # Errors
/// No rows, a target for each row that is missing or outside the vocabulary, and candle's.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    if rows == 0 || rows != targets.len() || targets.iter().any(|&target| target as usize >= vocabulary) {
        bail!("{} targets do not fit {rows} rows of {vocabulary} logits", targets.len());
    }
    if !fused(&[logits]) {
        let targets = Tensor::new(targets, logits.device())?;
        return candle_nn::loss::cross_entropy(&logits.to_dtype(DType::F32)?, &targets);
    }
    logits.contiguous()?.apply_op1(CrossEntropy { targets: targets.to_vec(), normalizers: OnceLock::new() })
}

struct CrossEntropy {
    targets: Vec<u32>,
    /// Log-sum-exp of each row, which the forward pass leaves for the backward pass.
    normalizers: OnceLock<Vec<f64>>,
}

/// A scalar: the mean, summed in order. A parallel sum would depend in its last bits on how the threads shared the work.
fn mean(values: impl ExactSizeIterator<Item = f64>) -> (CpuStorage, Shape) {
    let count = values.len() as f64;
    (CpuStorage::F32(vec![(values.sum::<f64>() / count) as f32]), ().into())
}

/// The gradient of a mean over rows: that of the scalar, shared among them.
fn share(grad: &Tensor, rows: usize) -> Result<f32> {
    Ok(grad.to_scalar::<f32>()? / rows as f32)
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = elements(storage, layout)?;
        let size = row_length(layout.shape())?;
        let normalizers: Vec<f64> = logits.par_chunks_exact(size).map(|row| log_sum_exp(row, 1.0)).collect();
        let rows = logits.chunks_exact(size).zip(&self.targets).zip(&normalizers);
        let out = mean(rows.map(|((row, &target), all)| all - f64::from(row[target as usize])));
        // The same operation is never run twice.
        let _ = self.normalizers.set(normalizers);
        Ok(out)
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let size = row_length(logits.shape())?;
        let share = share(grad, self.targets.len())?;
        let Some(normalizers) = self.normalizers.get() else { bail!("a backward pass without its forward pass") };
        let values = Elements::of(logits)?;
        let mut out = vec![0f32; values.len()];
        let rows = out.par_chunks_exact_mut(size).zip(values.par_chunks_exact(size));
        rows.zip(normalizers).zip(&self.targets).for_each(|(((out, row), &all), &target)| {
            probabilities(out, row, all as f32, share);
            out[target as usize] -= share;
        });
        shaped(out, logits).map(Some)
    }
}

/// Probabilities of a row whose log-sum-exp is `all`, times `share`.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn probabilities(out: &mut [f32], logits: &[f32], all: f32, share: f32) {
    for (out, logit) in out.iter_mut().zip(logits) {
        *out = share * exp(logit - all);
    }
}

/// How far a student's distribution `q` is from its teacher's `p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// `KL(p || q)`: the student covers all that the teacher finds likely.
    ForwardKl,
    /// `KL(q || p)`: the student keeps to what the teacher finds likely.
    ReverseKl,
    /// Half of each of the two.
    SymmetricKl,
    /// Jensen and Shannon's: the mean divergence of both from their mixture; at most ln 2.
    JensenShannon,
}

/// Mean over rows of the divergence, in nats, of `softmax(student / temperature)` from `softmax(teacher / temperature)`; both
/// `[rows, vocabulary]`. A scalar whose gradient goes to the student alone. It is not multiplied by the square of the
/// temperature.
///
/// # Errors
/// No rows, different shapes, a temperature that is not positive, and candle's.
pub fn divergence(student: &Tensor, teacher: &Tensor, kind: Divergence, temperature: f64) -> Result<Tensor> {
    let (rows, _) = student.dims2()?;
    if rows == 0 || student.shape() != teacher.shape() {
        bail!("a student with logits {:?} was given a teacher's {:?}", student.shape(), teacher.shape());
    }
    if !(temperature.is_finite() && temperature > 0.0) {
        bail!("a temperature of {temperature} was asked for");
    }
    if !fused(&[student, teacher]) {
        return primitive(student, teacher, kind, temperature);
    }
    let (student, teacher, scale) = (student.contiguous()?, teacher.detach().contiguous()?, (1.0 / temperature) as f32);
    match kind {
        Divergence::ForwardKl => student.apply_op1(Op::<ForwardKl>::new(teacher, scale)),
        Divergence::ReverseKl => student.apply_op1(Op::<ReverseKl>::new(teacher, scale)),
        Divergence::SymmetricKl => student.apply_op1(Op::<SymmetricKl>::new(teacher, scale)),
        Divergence::JensenShannon => student.apply_op1(Op::<JensenShannon>::new(teacher, scale)),
    }
}

pub(super) fn primitive(student: &Tensor, teacher: &Tensor, kind: Divergence, temperature: f64) -> Result<Tensor> {
    let log = |logits: &Tensor| candle_nn::ops::log_softmax(&(logits.to_dtype(DType::F32)? / temperature)?, D::Minus1);
    let (a, b) = (log(student)?, log(&teacher.detach())?);
    let kl = |from: &Tensor, to: &Tensor| -> Result<Tensor> { (from.exp()? * (from - to)?)?.sum(D::Minus1)?.mean_all() };
    match kind {
        Divergence::ForwardKl => kl(&b, &a),
        Divergence::ReverseKl => kl(&a, &b),
        Divergence::SymmetricKl => (kl(&a, &b)? + kl(&b, &a)?)? * 0.5,
        Divergence::JensenShannon => {
            // Of the larger one, so that nothing underflows.
            let most = a.maximum(&b)?.detach();
            let mixed = (((((&a - &most)?.exp()? + (&b - &most)?.exp()?)? * 0.5)?.log()?) + &most)?;
            (kl(&a, &mixed)? + kl(&b, &mixed)?)? * 0.5
        }
    }
}

/// One kind of divergence: `a` and `b` are the logarithms of the student's and the teacher's probability of a token.
trait Kind: Send + Sync + 'static {
    /// What the token adds to the divergence, and to the mean that [`Kind::slope`] takes off.
    fn term(a: f32, b: f32) -> [f32; 2];
    /// Derivative of the divergence with respect to the student's logit, given that mean.
    fn slope(a: f32, b: f32, mean: f32) -> f32;
}

struct ForwardKl;
struct ReverseKl;
struct SymmetricKl;
struct JensenShannon;

impl Kind for ForwardKl {
    #[inline(always)]
    fn term(a: f32, b: f32) -> [f32; 2] {
        [exp(b) * (b - a), 0.0]
    }

    #[inline(always)]
    fn slope(a: f32, b: f32, _: f32) -> f32 {
        exp(a) - exp(b)
    }
}

impl Kind for ReverseKl {
    #[inline(always)]
    fn term(a: f32, b: f32) -> [f32; 2] {
        let term = exp(a) * (a - b);
        [term, term]
    }

    #[inline(always)]
    fn slope(a: f32, b: f32, mean: f32) -> f32 {
        exp(a) * (a - b - mean)
    }
}

impl Kind for SymmetricKl {
    #[inline(always)]
    fn term(a: f32, b: f32) -> [f32; 2] {
        let (q, p) = (exp(a), exp(b));
        [0.5 * (q - p) * (a - b), q * (a - b)]
    }

    #[inline(always)]
    fn slope(a: f32, b: f32, mean: f32) -> f32 {
        let (q, p) = (exp(a), exp(b));
        0.5 * (q - p + q * (a - b - mean))
    }
}

/// Logarithm of the mean of two probabilities from their logarithms.
#[inline(always)]
fn log_mixture(a: f32, b: f32) -> f32 {
    let (less, more) = if a < b { (a, b) } else { (b, a) };
    more + (less - more).exp().ln_1p() - LN_2
}

impl Kind for JensenShannon {
    #[inline(always)]
    fn term(a: f32, b: f32) -> [f32; 2] {
        let (q, p, mixed) = (exp(a), exp(b), log_mixture(a, b));
        [0.5 * (q * (a - mixed) + p * (b - mixed)), q * (a - mixed)]
    }

    #[inline(always)]
    fn slope(a: f32, b: f32, mean: f32) -> f32 {
        0.5 * exp(a) * (a - log_mixture(a, b) - mean)
    }
}

/// What a row's backward pass needs of its forward pass: the log-sum-exps of both sides' scaled logits, and the mean.
#[derive(Clone, Copy)]
struct Row {
    student: f32,
    teacher: f32,
    mean: f32,
}

/// Sums of a row's terms, given the log-sum-exps of both sides.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn terms<K: Kind>([student, teacher]: [&[f32]; 2], [of_student, of_teacher]: [f32; 2], scale: f32) -> [f64; 2] {
    let mut sums = [0f64; 2];
    for (student, teacher) in student.chunks(PART).zip(teacher.chunks(PART)) {
        let parts = sum_pairs_of(student, teacher, |s, t| K::term(s * scale - of_student, t * scale - of_teacher));
        sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += f64::from(part));
    }
    sums
}

/// Likewise its gradient, times `share`.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
fn slopes<K: Kind>(out: &mut [f32], [student, teacher]: [&[f32]; 2], row: Row, [scale, share]: [f32; 2]) {
    for (out, (s, t)) in out.iter_mut().zip(student.iter().zip(teacher)) {
        *out = share * K::slope(s * scale - row.student, t * scale - row.teacher, row.mean);
    }
}

struct Op<K> {
    teacher: Tensor,
    /// One over the temperature.
    scale: f32,
    rows: OnceLock<Vec<Row>>,
    kind: PhantomData<K>,
}

impl<K: Kind> Op<K> {
    fn new(teacher: Tensor, scale: f32) -> Self {
        Self { teacher, scale, rows: OnceLock::new(), kind: PhantomData }
    }

    /// The divergence of one row, and what its gradient needs.
    fn row(&self, student: &[f32], teacher: &[f32]) -> (f64, Row) {
        let (of_student, of_teacher) = (log_sum_exp(student, self.scale) as f32, log_sum_exp(teacher, self.scale) as f32);
        let [value, mean] = terms::<K>([student, teacher], [of_student, of_teacher], self.scale);
        (value, Row { student: of_student, teacher: of_teacher, mean: mean as f32 })
    }
}

impl<K: Kind> CustomOp1 for Op<K> {
    fn name(&self) -> &'static str {
        "divergence"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (students, teachers) = (elements(storage, layout)?, Elements::of(&self.teacher)?);
        let (size, teachers) = (row_length(layout.shape())?, &*teachers);
        let rows = students.par_chunks_exact(size).zip(teachers.par_chunks_exact(size));
        let found: Vec<(f64, Row)> = rows.map(|(student, teacher)| self.row(student, teacher)).collect();
        let out = mean(found.iter().map(|(value, _)| *value));
        // The same operation is never run twice.
        let _ = self.rows.set(found.into_iter().map(|(_, row)| row).collect());
        Ok(out)
    }

    fn bwd(&self, student: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let size = row_length(student.shape())?;
        let Some(rows) = self.rows.get() else { bail!("a backward pass without its forward pass") };
        let (share, scale) = (share(grad, rows.len())? * self.scale, self.scale);
        let (students, teachers) = (Elements::of(student)?, Elements::of(&self.teacher)?);
        let mut out = vec![0f32; students.len()];
        let pairs = students.par_chunks_exact(size).zip(teachers.par_chunks_exact(size));
        out.par_chunks_exact_mut(size).zip(pairs).zip(rows).for_each(|((out, (student, teacher)), row)| {
            slopes::<K>(out, [student, teacher], *row, [scale, share]);
        });
        shaped(out, student).map(Some)
    }
}
