// Command kube-1.32 is the control plane of the oldest Kubernetes that is supported, in one program.
//
// The part to play is the name the program is called by (a symbolic link). etcd and kubectl are those of ../kube.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

var parts = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
}

func main() {
	part := filepath.Base(os.Args[0])
	newCommand, isPart := parts[part]
	if !isPart {
		fmt.Fprintf(os.Stderr, "kube-1.32: no part is named %q\n", part)
		os.Exit(2)
	}
	os.Exit(cli.Run(newCommand()))
}
