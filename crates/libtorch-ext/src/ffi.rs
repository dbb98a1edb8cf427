//! The C functions of `csrc/`, and how their messages become errors. Nothing outside this crate sees them.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::Tensor;

use crate::TorchError;
use crate::map::Map;
use crate::profiler::RawEvent;

/// One parameter of a sweep as the shim takes it: pointers to `at::Tensor`, null where there is none.
#[repr(C)]
pub(crate) struct Part {
    pub(crate) param: *mut c_void,
    pub(crate) gradient: *mut c_void,
    pub(crate) step: *mut c_void,
    pub(crate) exp_avg: *mut c_void,
    pub(crate) exp_avg_sq: *mut c_void,
    pub(crate) exp_avg_absmax: *mut c_void,
    pub(crate) exp_avg_sq_absmax: *mut c_void,
    pub(crate) copy: *mut c_void,
    pub(crate) average: *mut c_void,
    pub(crate) average_copy: *mut c_void,
}

unsafe extern "C" {
    fn fewstep_free(message: *mut c_char);
    pub(crate) fn fewstep_fused_adamw(
        params: *const *mut c_void,
        grads: *const *mut c_void,
        exp_avgs: *const *mut c_void,
        exp_avg_sqs: *const *mut c_void,
        steps: *const *mut c_void,
        count: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        skip: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_lerp(
        to: *const *mut c_void,
        from: *const *mut c_void,
        count: usize,
        weight: f64,
    ) -> *mut c_char;
    pub(crate) fn fewstep_lerp_by(
        to: *const *mut c_void,
        from: *const *mut c_void,
        count: usize,
        weight: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_scale(
        tensors: *const *mut c_void,
        count: usize,
        factor: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_global_norm(
        tensors: *const *mut c_void,
        count: usize,
        out: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_sweep(
        parts: *const Part,
        count: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        average_weight: f64,
        factor: *mut c_void,
        skip: *mut c_void,
        map: *const Map,
        square_map: *const Map,
    ) -> *mut c_char;
    pub(crate) fn fewstep_norm(tensors: *const *mut c_void, count: usize, out: *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_recompute(
        inputs: *const *mut c_void,
        count: usize,
        closure: *mut c_void,
        call: unsafe extern "C" fn(*mut c_void, *const *mut c_void, usize, *mut *mut c_void) -> *mut c_char,
        drop: unsafe extern "C" fn(*mut c_void),
        output: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_meter_start(counted: c_int, output: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_meter_read(
        meter: *const c_void,
        current: *mut i64,
        peak: *mut i64,
        peak_with_work: *mut i64,
    );
    pub(crate) fn fewstep_meter_reset_peak(meter: *mut c_void);
    pub(crate) fn fewstep_meter_stop(meter: *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_hollow(
        sizes: *const i64,
        count: usize,
        like: *mut c_void,
        output: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_backward_each(
        loss: *mut c_void,
        leaves: *const *mut c_void,
        count: usize,
        closure: *mut c_void,
        take: unsafe extern "C" fn(*mut c_void, usize, *mut c_void) -> *mut c_char,
    ) -> *mut c_char;
    pub(crate) fn fewstep_store_open(
        host: *const c_char,
        port: u16,
        serves: c_int,
        timeout_ms: i64,
        output: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_store_clone(store: *mut c_void, output: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_store_port(store: *mut c_void) -> u16;
    pub(crate) fn fewstep_store_set(
        store: *mut c_void,
        key: *const c_char,
        bytes: *const u8,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn fewstep_store_get(
        store: *mut c_void,
        key: *const c_char,
        timeout_ms: i64,
        bytes: *mut *mut u8,
        count: *mut usize,
    ) -> *mut c_char;
    pub(crate) fn fewstep_bytes_free(bytes: *mut u8);
    pub(crate) fn fewstep_store_has(
        store: *mut c_void,
        key: *const c_char,
        output: *mut c_int,
    ) -> *mut c_char;
    pub(crate) fn fewstep_store_add(
        store: *mut c_void,
        key: *const c_char,
        number: i64,
        output: *mut i64,
    ) -> *mut c_char;
    pub(crate) fn fewstep_store_delete(store: *mut c_void, key: *const c_char) -> *mut c_char;
    pub(crate) fn fewstep_store_free(store: *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_group_gloo(
        store: *mut c_void,
        name: *const c_char,
        rank: c_int,
        size: c_int,
        joining_ms: i64,
        operation_ms: i64,
        interface: *const c_char,
        host: *const c_char,
        output: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_group_nccl(
        store: *mut c_void,
        name: *const c_char,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        output: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_group_free(group: *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_group_all_reduce(
        group: *mut c_void,
        values: *mut c_void,
        output: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_group_broadcast(
        group: *mut c_void,
        values: *mut c_void,
        root: c_int,
        output: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_group_reduce_scatter(
        group: *mut c_void,
        own: *mut c_void,
        all: *mut c_void,
        output: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_group_all_gather(
        group: *mut c_void,
        all: *mut c_void,
        own: *mut c_void,
        output: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn fewstep_work_wait(work: *mut c_void, timeout_ms: i64, done: *mut c_int) -> *mut c_char;
    pub(crate) fn fewstep_work_free(work: *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_profiler_start(cuda: c_int) -> *mut c_char;
    pub(crate) fn fewstep_profiler_stop(output: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_recording_free(recording: *mut c_void);
    pub(crate) fn fewstep_recording_each(
        recording: *const c_void,
        context: *mut c_void,
        visit: unsafe extern "C" fn(*mut c_void, *const RawEvent),
    ) -> *mut c_char;
    pub(crate) fn fewstep_span_begin(name: *const c_char, output: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_span_end(span: *mut c_void) -> *mut c_char;
    pub(crate) fn fewstep_device_memory(
        device: c_int,
        allocated: *mut i64,
        peak: *mut i64,
        free: *mut i64,
        total: *mut i64,
    ) -> *mut c_char;
    pub(crate) fn fewstep_reset_peak(device: c_int) -> *mut c_char;
    pub(crate) fn fewstep_synchronize(device: c_int) -> *mut c_char;
    pub(crate) fn fewstep_allow_tf32(allow: c_int) -> *mut c_char;
}

/// Takes the message that a shim function returned, and frees it.
pub(crate) fn check(message: *mut c_char) -> Result<(), TorchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message that is not null is a NUL-terminated string that the shim allocated with strdup
    // and that nobody else holds.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: as above; it is freed once, here, and not used after.
    unsafe { fewstep_free(message) };
    Err(TorchError::new(&text))
}

/// The tensors as the shim takes them: pointers to `at::Tensor`.
pub(crate) fn pointers(tensors: &[Tensor]) -> Vec<*mut c_void> {
    tensors.iter().map(pointer).collect()
}

/// One tensor as the shim takes it.
pub(crate) fn pointer(tensor: &Tensor) -> *mut c_void {
    tensor.as_ptr().cast_mut().cast()
}
