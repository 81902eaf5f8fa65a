//! What an administrator may do wrong with the chart, on the real cluster that `KUBECONFIG` names,
//! with helm and kubectl: it is said what is wrong, running pods do not notice, and the right values
//! mend it without anything else.

mod image;
mod kubelet;
mod library;
mod out;
mod twice;
mod values;
mod webhook;
