package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	finalizer  = "userstorage.dev/pod-gone"
	managedBy  = "userstorage.dev/managed-by"
	manager    = "userstorage-operator"
	slugLabel  = "userstorage.dev/slug"
	uidLabel   = "userstorage.dev/uid"
	userIDNote = "userstorage.dev/user-id"
	hashNote   = "userstorage.dev/pod-hash"
	image      = "docker.io/copyparty/min:1.20.26"
	port       = 8080
)

// volumeCheck is the readiness probe of the operator for Copyparty (operator/userstorage_operator/browsers/probes.py).
const volumeCheck = `unset http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY
read -r last 2>/dev/null </dev/shm/volume-check
if [ "$(cat "/proc/$last/comm" 2>/dev/null)" = find ] && [ -e "/proc/$last/exe" ]
then echo "the last check of the volume has not returned" >&2; exit 1; fi
find /srv/ -mindepth 1 -maxdepth 1 -quit & echo $! >/dev/shm/volume-check
wait $! && exec wget -q -O /dev/null http://127.0.0.1:8080/.cpr/ui.css`

func ptr[T any](value T) *T { return &value }

func childName(us *UserStorage) string { return "user-storage-" + us.Spec.UserID }

func selector(us *UserStorage) map[string]string {
	return map[string]string{slugLabel: us.Spec.UserID}
}

func childMeta(us *UserStorage) metav1.ObjectMeta {
	labels := map[string]string{slugLabel: us.Spec.UserID, "app": "filebrowser", "userId": us.Spec.UserID}
	labels[managedBy], labels["app.kubernetes.io/managed-by"], labels[uidLabel] = manager, manager, string(us.UID)
	return metav1.ObjectMeta{Name: childName(us), Namespace: us.Namespace, Labels: labels,
		Annotations:     map[string]string{userIDNote: us.Spec.UserID},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(us, groupVersion.WithKind("UserStorage"))}}
}

func networkPolicy(us *UserStorage) *netv1.NetworkPolicy {
	meta := childMeta(us)
	meta.Finalizers = []string{finalizer}
	return &netv1.NetworkPolicy{ObjectMeta: meta, Spec: netv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: selector(us)},
		PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress, netv1.PolicyTypeEgress},
		Ingress: []netv1.NetworkPolicyIngressRule{{
			From: []netv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"userstorage.dev/gateway": "true"}}}},
			Ports: []netv1.NetworkPolicyPort{{Port: ptr(intstr.FromInt32(port)), Protocol: ptr(corev1.ProtocolTCP)}}}}}}
}

// claim builds the claim. It has no owner: the files outlive the UserStorage.
func claim(us *UserStorage) *corev1.PersistentVolumeClaim {
	meta := childMeta(us)
	meta.OwnerReferences = nil
	delete(meta.Labels, uidLabel)
	meta.Annotations["userstorage.dev/run-as"] = "1000:1000:1000"
	return &corev1.PersistentVolumeClaim{ObjectMeta: meta, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}}}}
}

func service(us *UserStorage) *corev1.Service {
	return &corev1.Service{ObjectMeta: childMeta(us), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: selector(us),
		Ports:           []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}},
		SessionAffinity: corev1.ServiceAffinityNone, InternalTrafficPolicy: ptr(corev1.ServiceInternalTrafficPolicyCluster)}}
}

var (
	requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("384Mi")}
	limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourceEphemeralStorage: resource.MustParse("384Mi")}
	state  = resource.MustParse("256Mi")
)

func probe(handler corev1.ProbeHandler, period, failures int32) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: handler, PeriodSeconds: period, TimeoutSeconds: 5, FailureThreshold: failures}
}

func pod(us *UserStorage) *corev1.Pod {
	tcp := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}}
	volume := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", volumeCheck}}}
	spec := corev1.PodSpec{
		OS:                           &corev1.PodOS{Name: corev1.Linux},
		AutomountServiceAccountToken: ptr(false), EnableServiceLinks: ptr(false), RestartPolicy: corev1.RestartPolicyAlways,
		TerminationGracePeriodSeconds: ptr(int64(30)),
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: ptr(true), RunAsUser: ptr(int64(1000)), RunAsGroup: ptr(int64(1000)),
			FSGroup: ptr(int64(1000)), FSGroupChangePolicy: ptr(corev1.FSGroupChangeOnRootMismatch),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{Name: "filebrowser", Image: image, Command: []string{"python3", "-m", "copyparty"},
			Args: []string{"-i=::", "-p=8080", "-v=/srv::r.wmd,owner:c,xvol:c,daw",
				"--idp-hm-usr=\nX-Forwarded-User\n" + us.Spec.UserID + "\nowner", "--idp-store=0", "--auth-ord=idp",
				"--xff-src=0.0.0.0/0,::/0", "--http-only", "--no-crt", "--no-ses", "--no-bauth", "--dont-ban=any", "--loris=0",
				"--rproxy=-1", "--xf-proto-fb=http", "--hist=/state", "--unpost=0", "--rw-edit=", "--no-thumb", "--no-ansi", "-nih"},
			Env:       []corev1.EnvVar{{Name: "XDG_CONFIG_HOME", Value: "/state"}, {Name: "PRTY_NO_ENVEXPAND", Value: "1"}},
			Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}},
			Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits},
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: ptr(false), Privileged: ptr(false),
				ReadOnlyRootFilesystem: ptr(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			VolumeMounts: []corev1.VolumeMount{{Name: "files", MountPath: "/srv"}, {Name: "state", MountPath: "/state"}},
			StartupProbe: probe(tcp, 1, 300), ReadinessProbe: probe(volume, 10, 2), LivenessProbe: probe(tcp, 20, 3),
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError}},
		Volumes: []corev1.Volume{
			{Name: "files", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: childName(us)}}},
			{Name: "state", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &state}}}}}
	meta := childMeta(us)
	meta.Annotations[hashNote] = hash(&spec)
	meta.Annotations["userstorage.dev/spec-hash"] = hash(us.Spec)
	meta.Annotations["userstorage.dev/sources-hash"] = hash(networkPolicy(us).Spec)
	meta.Annotations["userstorage.dev/exposure-hash"] = hash(nil)
	meta.Annotations["userstorage.dev/class"], meta.Annotations["userstorage.dev/base-path"] = "", "/"
	return &corev1.Pod{ObjectMeta: meta, Spec: spec}
}

func hash(of any) string {
	encoded, err := json.Marshal(of)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:8])
}
